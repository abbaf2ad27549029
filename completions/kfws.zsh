#compdef kfws

_kfws_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _KFWS_COMPLETE=complete_zsh kfws)
}

if [[ $funcstack[1] == _kfws ]]; then
  _kfws_completion "$@"
else
  compdef _kfws_completion kfws
fi
