"""What stands behind ``make``: run the chapters, render the book, record results, check everything."""
