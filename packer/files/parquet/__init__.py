"""The part of Parquet that our files are made of, read strictly and in bounded memory."""
