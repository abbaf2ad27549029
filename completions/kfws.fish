function __kfws_completion
    set -l offered (env _KFWS_COMPLETE=complete_fish _TYPER_COMPLETE_ARGS=(commandline -cp | string collect) kfws)
    if set -q offered[1]
        string join \n -- $offered
    else
        __fish_complete_path (commandline -ct)
    end
end

complete --command kfws --no-files --arguments "(__kfws_completion)"
