package sqs

// agenda is a heap of a queue's messages by when something has to be done
// about them (message.wakes).
type agenda []*message

func (a agenda) swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = int32(i), int32(j)
}

func (a agenda) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if a[parent].wakes <= a[i].wakes {
			return
		}
		a.swap(i, parent)
		i = parent
	}
}

func (a agenda) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(a); child++ {
			if a[child].wakes < a[least].wakes {
				least = child
			}
		}
		if least == i {
			return
		}
		a.swap(i, least)
		i = least
	}
}

func (a *agenda) add(m *message) {
	m.place = int32(len(*a))
	*a = append(*a, m)
	a.up(int(m.place))
}

// fix moves m to where it belongs after its time has changed.
func (a agenda) fix(m *message) {
	a.up(int(m.place))
	a.down(int(m.place))
}

func (a *agenda) remove(m *message) {
	i, last := int(m.place), len(*a)-1
	a.swap(i, last)
	(*a)[last] = nil
	if *a = (*a)[:last]; i < last {
		a.up(i)
		a.down(i)
	}
}
