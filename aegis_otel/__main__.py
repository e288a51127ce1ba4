"""`python -m aegis_otel` is the command `aegis`."""

from aegis_otel.cli import main

if __name__ == "__main__":
    main(prog_name="python -m aegis_otel")
