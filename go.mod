module github.com/hearth-faas/hearth

go 1.26
