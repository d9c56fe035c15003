"""What training minimises: each objective a class that returns its terms apart."""
