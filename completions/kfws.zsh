#compdef kfws

_kfws_completion() {
  local -a offered
  offered=( ${(f)"$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _KFWS_COMPLETE=complete_zsh "${words[1]}")"} )
  if (( $#offered )); then
    _describe kfws offered
  else
    _files
  fi
}

if [[ $funcstack[1] == _kfws ]]; then
  _kfws_completion "$@"
else
  compdef _kfws_completion kfws
fi
