"""Small defects put into a copy of the kernel, one at a time: would the tests notice?

``make defects`` tries all of them and writes docs/defects.md; the usual tests try a few. ``catalogue`` lists
them, ``evidence`` picks what a copy is held against, ``check`` does so inside the process that has loaded the
copy, ``copies`` makes copies and starts such processes.
"""
