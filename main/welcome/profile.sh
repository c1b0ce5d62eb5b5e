# SPDX-License-Identifier: MIT
# Start-up file of the welcome guest's shell.
PS1='welcome:\w# '
alias ll='ls -l'
