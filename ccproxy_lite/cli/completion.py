"""``ccproxy-lite completion SHELL``: completions, written from the command line that they complete."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator

from ccproxy_lite.cli.arguments import COMMANDS, parser_of
from ccproxy_lite.cli.env import fish_quoted
from ccproxy_lite.formats import FORMATS

_PARSERS = {name: parser_of(name) for name in COMMANDS}


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0."""
    script = {"bash": _bash_script, "zsh": _zsh_script, "fish": _fish_script}[arguments.shell]
    sys.stdout.write("\n".join(script()) + "\n")
    return 0


def _value_completions(action: argparse.Action) -> list[str] | None:
    """What may stand behind an option: None for anything, an empty list for a file."""
    if action.choices:
        return [str(choice) for choice in action.choices]
    if action.metavar == "FORMAT":
        return list(FORMATS)
    return [] if action.metavar in ("FILE", "DIR") else None


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0


def _bash_script() -> Iterator[str]:
    commands = "|".join(COMMANDS)
    yield f"""# bash completion for ccproxy-lite
_ccproxy_lite() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${{COMP_WORDS[i]}} == -- && $command == run ]]; then
      if ((i == COMP_CWORD - 1)); then
        COMPREPLY=($(compgen -c -- "$word"))
      else
        COMPREPLY=($(compgen -f -- "$word"))
      fi
      return
    fi
    case ${{COMP_WORDS[i]}} in {commands}) [[ -n $command ]] || command=${{COMP_WORDS[i]}} ;; esac
  done
  if [[ -z $command && $word != -* ]]; then
    COMPREPLY=($(compgen -W "{" ".join(COMMANDS)}" -- "$word"))
    return
  fi
  case ${{command:-serve}}:$before in"""
    for name, parser in _PARSERS.items():
        for action in filter(_takes_value, parser.options):
            values, where = _value_completions(action), "|".join(f"{name}:{option}" for option in action.option_strings)
            reply = f'compgen -W "{" ".join(values)}"' if values else "compgen -f"
            if values is None:
                yield f"    {where}) return ;;"
            else:
                yield f'    {where}) COMPREPLY=($({reply} -- "$word")); return ;;'
    yield "  esac\n  case ${command:-serve} in"
    for name, parser in _PARSERS.items():
        words = [option for action in parser.options for option in action.option_strings if option.startswith("--")]
        words += [str(choice) for action in parser.positionals for choice in action.choices or ()]
        files = ' $(compgen -f -- "$word")' if any(not action.choices for action in parser.positionals) else ""
        yield f'    {name}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word"){files}) ;;'
    yield "  esac\n}\ncomplete -o filenames -F _ccproxy_lite ccproxy-lite"


def _zsh_script() -> Iterator[str]:
    yield "#compdef ccproxy-lite\n_ccproxy_lite() {\n  local -a subcommands=("
    yield from (f"    {shlex.quote(f'{name}:{about}')}" for name, about in COMMANDS.items())
    yield "  )\n  local command=${words[2]}\n  if ((CURRENT == 2)); then"
    yield "    _describe command subcommands\n    return\n  fi"
    yield "  shift words; ((CURRENT--))\n  case $command in"
    for name, parser in _PARSERS.items():
        specs = [_zsh_option(action, option) for action in parser.options for option in action.option_strings]
        for action in parser.positionals:
            values = f"({' '.join(map(str, action.choices))})" if action.choices else "_files"
            specs.append(f"'1:{action.dest}:{values}'")
        if name == "run":  # behind "--" stands another command, with completions of its own
            yield "    run) local -i dashes=${words[(i)--]}\n      if ((dashes < CURRENT)); then"
            yield "        shift $dashes words; ((CURRENT -= dashes)); _normal; return\n      fi"
            yield f"      _arguments {' '.join(specs)} ;;"
            continue
        yield f"    {name}) _arguments {' '.join(specs)} ;;"
    yield "  esac\n}\nif [[ $funcstack[1] == _ccproxy-lite ]]; then"  # a file of $fpath, or one that is sourced
    yield '  _ccproxy_lite "$@"\nelse\n  compdef _ccproxy_lite ccproxy-lite\nfi'


def _zsh_option(action: argparse.Action, option: str) -> str:
    about = (action.help or "").replace("[", "(").replace("]", ")").replace(":", " ")
    values = _value_completions(action)
    kind = f"({' '.join(values)})" if values else "_files"
    value = "" if not _takes_value(action) else ":value: " if values is None else f":value:{kind}"
    return shlex.quote(f"{option}[{about}]{value}")


def _fish_script() -> Iterator[str]:
    yield "# fish completion for ccproxy-lite\ncomplete -c ccproxy-lite -f"
    first_word = f"not __fish_seen_subcommand_from {' '.join(COMMANDS)}"
    for name, about in COMMANDS.items():
        yield f"complete -c ccproxy-lite -n {fish_quoted(first_word)} -a {name} -d {fish_quoted(about)}"
    for name, parser in _PARSERS.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for action in parser.options:
            names = " ".join(f"-l {o[2:]}" if o.startswith("--") else f"-s {o[1:]}" for o in action.option_strings)
            values = _value_completions(action)
            value = "" if not _takes_value(action) else " -r" if not values else f" -x -a '{' '.join(values)}'"
            value += " -F" if values == [] and _takes_value(action) else ""
            yield f"complete -c ccproxy-lite {seen} {names}{value} -d {fish_quoted(action.help or '')}"
        for action in parser.positionals:
            what = f"-a '{' '.join(map(str, action.choices))}'" if action.choices else "-F"
            yield f"complete -c ccproxy-lite {seen} {what}"
    yield "complete -c ccproxy-lite -n '__fish_seen_subcommand_from run' -a '(__fish_complete_subcommand --fcs-skip=2)'"
