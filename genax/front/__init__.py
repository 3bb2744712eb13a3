"""The calls of scripts, notebooks and the command: experiments, runs, trained networks."""
