"""The corpus that comes with hybatch: questions and passages about 1,100 facts, parallel in 11 languages.

It was written for hybatch. `data/entities` holds the entities of each kind with their names and facts, `data/values`
the names of what the facts speak of, `data/templates` the phrasings. Some facts of known entities and known relations
are held out of training and make up the evaluation part.
"""

from hybatch.corpus.embedded.corpus import training_rows
from hybatch.corpus.embedded.evaluation import write_evaluation
from hybatch.corpus.embedded.templates import LANGUAGES

__all__ = ["LANGUAGES", "training_rows", "write_evaluation"]
