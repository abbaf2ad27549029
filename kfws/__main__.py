"""``kfws`` and ``python -m kfws``.

Signals are taken in hand before anything heavy of ours is imported, so that an early Ctrl-C leaves
quietly too; what Python and an installer's script do ahead of this file is beyond its reach.
"""

import gc

from kfws.cli.signals import leave_on_signals

# Of objects; about 60,000 are made until a stream begins.
IMPORTED = 100_000


def main() -> None:
    leave_on_signals()
    # What is imported stays. To look through it for garbage, several times on the way and twice
    # at the end, would take a fifth of a short run.
    gc.set_threshold(IMPORTED, 10, 10)
    try:
        if not _is_tab():
            from kfws.cli.app import main as run

            run()
    finally:
        gc.freeze()


def _is_tab() -> bool:
    """Whether a shell asked what TAB offers, and was told."""
    from kfws.cli.env import ASKED, Env

    env = Env.of_process()
    if ASKED not in env.environ:
        return False
    from kfws.cli.tab import answer

    if (text := answer(env)) is None:
        return False
    env.print(text)
    return True


if __name__ == "__main__":
    main()
