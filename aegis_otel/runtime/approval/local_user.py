"""Name the user of this machine, as whom the terminal and the commands answer."""

from __future__ import annotations

import os
import pwd


def local_user_name() -> str:
    """Return the name of the user that this process runs as.

    It comes from the operating system and not from the environment, which anybody can set who starts the
    program. A user without a name is `uid-1000`, say.
    """
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):  # in a container, say
        return f"uid-{uid}"
