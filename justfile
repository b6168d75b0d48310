# `just` lists the recipes. After scripts/setup there is a just in target/tools/bin.

_list:
    @just --list --unsorted

# Start the server with demo data, on 127.0.0.1:50051
run *args:
    cargo run -- serve --demo {{ args }}

# Run the tests, after installing what they need
test *args:
    scripts/test {{ args }}

# Compile everything, and no more
check:
    cargo check --workspace --all-targets

# Format, lints, protos, dependencies, containers: all that CI checks besides the tests
lint:
    scripts/lint

# Format the code
fmt:
    cargo fmt --all

# Measure, against an empty service
bench *args:
    cargo run --release -- bench {{ args }}

# Make a wheel, an npm package and a .deb in target/packages
package *args:
    scripts/package {{ args }}
