"""The stages plan and generate of an imported instruction set: its rows bring the questions and the answers.

`plan` makes an assignment of each turn and `generate` a pair of each assignment, both in this process and without a
model; `labels` says which type, form and language a turn has. All other stages work as they do on what a model wrote.
"""
