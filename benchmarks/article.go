// The article's program: gradient and loss of each sample of a CSV file (x, y), for one weight that is zero.
//
// What is the article's: a goroutine for each sample, however many there are; a channel with room for all results, so that no
// goroutine waits; a main goroutine that counts them, without a WaitGroup, and prints a line for each by fmt.Printf, which does
// not buffer: each line is a write of its own. No step is taken.
//
// What is not: samples come from a file, read as a whole by encoding/csv; a result is sent as one struct with its index (the
// article sends two numbers, which those of other goroutines may part, and numbers the lines as they come); and the gradient
// is that of the squared error. Lines come in whatever order the goroutines end.
package main

import (
	"encoding/csv"
	"fmt"
	"log"
	"os"
	"strconv"
)

const weight = 0.0

type result struct {
	index          int
	gradient, loss float64
}

// train gives gradient and loss of a sample with its label.
func train(sample, label float64) (gradient, loss float64) {
	residual := weight*sample - label
	return 2 * residual * sample, residual * residual
}

func main() {
	samples, labels := read(os.Args[1])
	results := make(chan result, len(samples))
	for i := range samples {
		go func(i int) {
			gradient, loss := train(samples[i], labels[i])
			results <- result{i, gradient, loss}
		}(i)
	}
	for range samples {
		r := <-results
		fmt.Printf("Sample %d: gradient = %f, loss = %f\n", r.index, r.gradient, r.loss)
	}
}

// read gives the two columns of a file with a header.
func read(path string) (samples, labels []float64) {
	file, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		log.Fatal(err)
	}
	for _, row := range rows[1:] {
		samples = append(samples, number(row[0]))
		labels = append(labels, number(row[1]))
	}
	return samples, labels
}

func number(cell string) float64 {
	value, err := strconv.ParseFloat(cell, 64)
	if err != nil {
		log.Fatal(err)
	}
	return value
}
