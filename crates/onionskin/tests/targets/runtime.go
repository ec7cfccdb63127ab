// A program of many goroutines that makes garbage and checks what it keeps, answers each line with
// its progress, and ends with 3 where something changed.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

var rounds atomic.Int64

func work() {
	keep := make([][]string, 500)
	for n := 0; ; n++ {
		made := make([]string, 50)
		for i := range made {
			made[i] = strconv.Itoa(n + i)
		}
		keep[n%len(keep)] = made
		if old := keep[(n*7)%len(keep)]; old != nil {
			first, _ := strconv.Atoi(old[0])
			for i, text := range old {
				if value, _ := strconv.Atoi(text); value != first+i {
					os.Exit(3)
				}
			}
		}
		rounds.Add(1)
	}
}

func sleep() {
	for {
		before := time.Now()
		time.Sleep(2 * time.Millisecond)
		if time.Since(before) < 2*time.Millisecond {
			os.Exit(3)
		}
		rounds.Add(1)
	}
}

func pass(from, to chan int) {
	for value := range from {
		rounds.Add(1)
		to <- value + 1
	}
}

func main() {
	for i := 0; i < 3; i++ {
		go work()
		go sleep()
	}
	there, back := make(chan int), make(chan int)
	go pass(there, back)
	go func() {
		for value := 0; ; value++ {
			there <- value
			if <-back != value+1 {
				os.Exit(3)
			}
		}
	}()
	fmt.Printf("{\"pid\":%d}\n", os.Getpid())
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() && input.Text() != "quit" {
		fmt.Printf("{\"rounds\":%d}\n", rounds.Load())
	}
}
