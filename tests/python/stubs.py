"""Makes the Python stubs of proto/tope/v1.

`stubs.py FOLDER` writes the stubs into FOLDER, for a client that has FOLDER in its PYTHONPATH. The protos in
proto/google are not compiled: the package googleapis-common-protos contains their modules, and a second copy
would conflict with these modules.
"""

import contextlib
import pathlib
import subprocess
import sys
import tempfile

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def write(folder):
    """Writes the stubs into an existing folder."""
    protos = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("tope/v1/*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([*command, *outputs, *protos], check=True)


@contextlib.contextmanager
def importable():
    """In this context, `tope.v1` can be imported. Imported modules stay; the folder is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="tope-stubs-") as folder:
        write(folder)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)


if __name__ == "__main__":
    write(sys.argv[1])
