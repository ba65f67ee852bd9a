"""A fuzzer for each kind of sample file: it looks for bytes that the readers don't bear, and keeps those that are worth it.

python -m tests.fuzz csv --seconds 300           one kind, or several; `all` for all of them
python -m tests.fuzz all --seconds 60 --keep     and take into the corpus what reaches something new
python -m tests.fuzz csv --again FILE            once more what was found

targets.py   what is read of which bytes, and what must hold
guided.py    the search, by coverage (atheris); lone.py where a reader may end its process
corpus/      the inputs that are kept, a folder a target; test_corpus.py reads them all, without atheris
keeping.py   chooses them: the smallest that reach every place between them
"""
