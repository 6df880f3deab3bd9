"""fio's jobs: a job file, its command line or its JSON, turned into the requests that its jobs would make.

`options` is data about fio, `sections` cuts the text into jobs, `job` says what one asks for, `draw` draws it.
"""
