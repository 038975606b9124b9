module libinference/inference

go 1.24
