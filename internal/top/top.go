// Package top shows what an edge does, live in a terminal: it reads the metrics
// of the admin listener twice a second and draws the differences. Nothing runs
// in the edge for it.
package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"freshet/internal/pause"

	tea "charm.land/bubbletea/v2"
)

// Options says what is shown and where.
type Options struct {
	// Admin is the URL of the admin listener, "http://127.0.0.1:9600".
	Admin string
	// Every is the time between measurements. Zero: half a second.
	Every time.Duration
	// Client makes the requests. Nil: the default one.
	Client *http.Client
	// In and Out are the terminal. Env is the environment that describes it;
	// nil: the process's.
	In  io.Reader
	Out io.Writer
	Env []string
}

// over is the time that rates and quantiles are about: long enough to be calm,
// short enough to be now.
const over = 5 * time.Second

// plainWidth is the width of a snapshot that goes to no terminal.
const plainWidth = 100

func (o Options) withDefaults() Options {
	if o.Every <= 0 {
		o.Every = 500 * time.Millisecond
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	return o
}

// Once measures for as long as [Options.Every], prints the differences as plain
// text and returns.
func Once(ctx context.Context, o Options) error {
	o = o.withDefaults()
	before, err := scrape(ctx, o.Client, o.Admin)
	if err != nil {
		return err
	}
	if !pause.For(ctx, o.Every) {
		return context.Cause(ctx)
	}
	now, err := scrape(ctx, o.Client, o.Admin)
	if err != nil {
		return err
	}
	lines := frame{title: o.Admin, past: new(history), width: plainWidth}.lines(between(before, now))
	if _, err := fmt.Fprintln(o.Out, strings.Join(lines, "\n")); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// Run shows measurements until ctx ends or the user quits.
func Run(ctx context.Context, o Options) error {
	o = o.withDefaults()
	options := []tea.ProgramOption{tea.WithContext(ctx), tea.WithInput(o.In), tea.WithOutput(o.Out)}
	if o.Env != nil {
		options = append(options, tea.WithEnvironment(o.Env))
	}
	_, err := tea.NewProgram(&model{ctx: ctx, o: o, width: 80, height: 24}, options...).Run()
	if err != nil && (ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted)) {
		return nil //nolint:nilerr // being told to end is how it ends
	}
	return err
}

// model is what is on the screen. It belongs to the program's loop.
type model struct {
	ctx           context.Context //nolint:containedctx // of the program, for its commands
	o             Options
	width, height int

	samples []*sample // of the last seconds, oldest first
	shown   *snapshot
	past    history
	err     error
}

// measured is what a measurement brought.
type measured struct {
	sample *sample
	err    error
}

// due says that it is time for the next one.
type due struct{}

// Init implements [tea.Model].
func (m *model) Init() tea.Cmd { return m.measure }

func (m *model) measure() tea.Msg {
	s, err := scrape(m.ctx, m.o.Client, m.o.Admin)
	return measured{s, err}
}

// Update implements [tea.Model].
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "esc", "ctrl+c":
			return m, tea.Quit
		}
	case due:
		return m, m.measure
	case measured:
		m.take(msg)
		return m, tea.Tick(m.o.Every, func(time.Time) tea.Msg { return due{} })
	}
	return m, nil
}

// take shows a new measurement. One that failed leaves the last on the screen.
func (m *model) take(new measured) {
	if m.err = new.err; m.err != nil {
		return
	}
	if n := len(m.samples); n > 0 {
		m.past.add(between(m.samples[n-1], new.sample)) // the plots are of single moments
		for len(m.samples) > 1 && new.sample.at.Sub(m.samples[0].at) > over {
			m.samples = m.samples[1:]
		}
		m.shown = between(m.samples[0], new.sample)
	}
	m.samples = append(m.samples, new.sample)
}

// View implements [tea.Model].
func (m *model) View() tea.View {
	f := frame{title: m.o.Admin, past: &m.past, width: m.width}
	if m.err != nil {
		f.note = m.err.Error()
	}
	lines := f.lines(m.shown)
	lines = lines[:min(len(lines), max(m.height-1, 0))]
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	if m.height > 0 {
		lines = append(lines, clip("q quits", m.width))
	}
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen = true
	v.WindowTitle = "freshet edge top"
	return v
}
