"""`python -m mts1b_brokers_core ...` is `mts mts1b-brokers ...`."""

from mts1b_brokers_core.cli.component import brokers

if __name__ == "__main__":
    brokers.main(prog_name="python -m mts1b_brokers_core")
