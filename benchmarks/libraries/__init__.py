"""The libraries that are compared, ours among them.

A library is a file with RUNS, a mapping from the name of a method to a function that makes the `problem.Work` from a
`problem.Problem`. It is imported in a process of its own, in an environment that need not have the others.
"""
