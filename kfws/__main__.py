"""``kfws`` and ``python -m kfws``.

Signals are taken in hand before anything heavy is imported: a Ctrl-C in the first tenth of a
second leaves as quietly as a later one.
"""

from kfws.cli.signals import leave_on_signals


def main() -> None:
    leave_on_signals()
    from kfws.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
