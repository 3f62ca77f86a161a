package profile

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lineOf finds the line of a field by its path; of the nearest thing around it, if the field is not there.
func lineOf(doc []byte, path string) int {
	var p unstable.Parser
	p.Reset(doc)
	counts := map[string]int{} // of each array of tables, by the path in which it is
	table, best, line := "", "", 0
	for p.NextExpression() {
		e := p.Expression()
		at, where := "", 0
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, where = "", 0
			for key := e.Key(); key.Next(); {
				n := key.Node()
				where = lineAt(doc, n.Raw.Offset)
				table = join(table, string(n.Data))
				if last := key.IsLast(); last && e.Kind == unstable.ArrayTable {
					counts[table]++
				}
				if n := counts[table]; n > 0 {
					table = fmt.Sprintf("%s[%d]", table, n-1)
				}
			}
			at = table
		case unstable.KeyValue:
			at = table
			for key := e.Key(); key.Next(); {
				n := key.Node()
				at = join(at, string(n.Data))
				where = lineAt(doc, n.Raw.Offset)
			}
		default:
			continue
		}
		if (path == at || strings.HasPrefix(path, at+".") || strings.HasPrefix(path, at+"[")) && len(at) > len(best) {
			best, line = at, where
		}
	}
	return line
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func lineAt(doc []byte, offset uint32) int {
	return 1 + bytes.Count(doc[:min(int(offset), len(doc))], []byte("\n"))
}
