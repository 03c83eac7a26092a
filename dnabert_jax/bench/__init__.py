"""`dnabert bench`: how fast this machine trains and predicts, on work that is fixed, versioned and the same everywhere.

`workloads` says what is done and `choices` what a user may choose about how; `work` makes a workload's step out of the
programs that a user's run consists of, `timing` times it and `suite` runs all of them, each in a process of its own.
`result` is the JSON that comes of it, `table` shows it and `compare` sets two of them side by side.
"""
