"""What is kept in the database: loaded data, sources, generations."""
