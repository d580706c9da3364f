"""Tasks that run a command: an argument list that the code declares, parameters from the table.

No shell reads the command, so that a value stays what it is, in the one argument where it stands.
The command is looked after on a thread beside the task's: whatever interrupts the task, no signal's
handler interrupts what starts and ends the command's processes.
"""

from .task import ShellTask

__all__ = ["ShellTask"]
