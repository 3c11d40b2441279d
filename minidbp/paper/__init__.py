"""The paper's tables and figure: conditions, the paper's numbers, claims, statistics, reports."""
