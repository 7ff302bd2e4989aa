"""MS versus NMOSD by where the lesions lie and what shape they have, whatever the scanner made of them."""
