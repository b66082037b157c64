"""Numbers that can be trusted: evaluation on fixed tasks, intervals, paired comparison."""
