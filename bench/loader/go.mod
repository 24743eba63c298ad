module auterity.io/bench/loader

go 1.25
