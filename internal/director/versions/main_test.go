package versions

import (
	"os"
	"testing"

	"freshet/internal/ramtest"
)

func TestMain(m *testing.M) { os.Exit(ramtest.Run(m)) }
