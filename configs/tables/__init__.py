"""Tables as data: the arms, what each may try, and the cells."""
