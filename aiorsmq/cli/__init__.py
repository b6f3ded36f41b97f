"""The command line: `aiorsmq`, or `python -m aiorsmq`. Everything but `demo` is in the extra `cli`.

`app` lists the commands; each file has those of one subject, on public names of the library only.
"""
