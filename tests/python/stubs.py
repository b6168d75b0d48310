"""Makes the Python stubs of proto/tope/v1.

As a script: `stubs.py FOLDER` writes them there, for a client that has FOLDER in its PYTHONPATH.
The protos under proto/google are not compiled: their modules come with googleapis-common-protos, and a second
copy would clash with them.
"""

import contextlib
import pathlib
import subprocess
import sys
import tempfile

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def write(folder):
    """Writes the stubs into a folder that exists."""
    protos = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("tope/v1/*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([*command, *outputs, *protos], check=True)


@contextlib.contextmanager
def importable():
    """Within it, `tope.v1` can be imported; the folder is gone afterwards, what was imported stays."""
    with tempfile.TemporaryDirectory(prefix="tope-stubs-") as folder:
        write(folder)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)


if __name__ == "__main__":
    write(sys.argv[1])
