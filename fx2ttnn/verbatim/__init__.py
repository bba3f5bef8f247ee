"""Files of a package that are the same in all, copied as they stand here; the compiler uses them too."""
