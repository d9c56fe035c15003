"""`regioncap data check`: whether a data set is fit to train on, as a page, a text and a contact sheet."""
