package session

import "iter"

// fifo is a queue. The zero value is empty.
type fifo[T any] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(v T) {
	if q.head > 64 && q.head*2 > len(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// first returns the next item without taking it; the queue is not empty.
func (q *fifo[T]) first() T { return q.items[q.head] }

// pop takes the next item; the queue is not empty.
func (q *fifo[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 1024 {
			q.items = nil // a burst's room is not kept
		}
	}
	return v
}

// moveLastToFront lets the item pushed last go first.
func (q *fifo[T]) moveLastToFront() {
	last := len(q.items) - 1
	v := q.items[last]
	copy(q.items[q.head+1:], q.items[q.head:last])
	q.items[q.head] = v
}

// all yields the items in order.
func (q *fifo[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, v := range q.items[q.head:] {
			if !yield(v) {
				return
			}
		}
	}
}
