"""Every mistake of a mappings folder that can be found without a message, each with file, line, rule and what to do."""

from pipeline.templates.lint.folder import lint
from pipeline.templates.lint.problem import Problem, Rule

__all__ = ["Problem", "Rule", "lint"]
