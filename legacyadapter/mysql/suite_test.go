package mysql_test

import (
	"fmt"
	"testing"

	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/changelog/sourcetest"
	"banyan/testdata/lab"
)

func TestSource(t *testing.T) {
	server := lab.MariaDB(t)
	sourcetest.Run(t, func(t testing.TB) *sourcetest.Server { return suiteServer(t, server) })
}

func suiteServer(t testing.TB, server *lab.MariaDBServer) *sourcetest.Server {
	_, dsn := server.Database(t)
	db := open(t, dsn)
	run(t, db, "CREATE TABLE counters (k INT PRIMARY KEY, v INT NOT NULL, note VARCHAR(100)); CREATE TABLE elsewhere (id INT PRIMARY KEY)")
	return &sourcetest.Server{
		DB:     db,
		Source: func(t testing.TB) changelog.Source { return source(t, dsn, "counters") },
		Annotated: func(t testing.TB, ids, statements []string) {
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			for i, q := range statements {
				if ids[i] != "" {
					q = "/*banyan:id=" + ids[i] + "*/ " + q
				}
				if _, err := tx.Exec(q); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		},
		Kill: func(t testing.TB) {
			rows, err := db.Query("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND = 'Binlog Dump'")
			if err != nil {
				t.Error(err)
				return
			}
			defer rows.Close()
			for rows.Next() {
				var id int
				if err := rows.Scan(&id); err == nil {
					db.Exec(fmt.Sprintf("KILL %d", id)) // it may have ended by itself
				}
			}
		},
	}
}
