module auterity.io/bench/vendor

go 1.24
