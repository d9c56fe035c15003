"""How much of a captioner's score is left when its pictures are occluded, blurred or otherwise changed."""
