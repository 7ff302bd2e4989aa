"""The spool: folders and files of the data folder that are the truth; the database is an index of them."""
