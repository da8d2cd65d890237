package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// inspectFiles refuses a data folder that SQLite would open although a part of
// its files is missing, for example after a restore that forgot one. SQLite
// deletes a log without its database, and all commits in it. inspectFiles
// changes nothing. The error's text says what to do.
func inspectFiles(folder string) error {
	path := filepath.Join(folder, databaseFile)
	target, err := filepath.EvalSymlinks(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is a symbolic link to a file that is missing: mount or restore the file, or remove the link", path)
		}
		target = path
	}
	size, log := sizeOf(target), sizeOf(target+"-wal")
	switch {
	case size == noFile && log != noFile:
		return fmt.Errorf("%s-wal is there without %s, and may hold acknowledged events: put %[2]s back, "+
			"or, to begin with an empty database, move %[1]s-wal away", filepath.Base(target), databaseFile)
	case size == 0 && log > 0:
		return fmt.Errorf("%s is empty, but %s-wal holds commits: put the whole %[1]s back, "+
			"or, to begin with an empty database, move both away", databaseFile, filepath.Base(target))
	case size <= 0:
		return inspectNote(target, size)
	}
	header, n, err := readHeader(target)
	if err != nil {
		return err
	}
	if err := inspectHeader(target, header[:n], size, log > 0, sizeOf(target+"-journal") > 0); err != nil || n < headerSize {
		return err
	}
	return inspectLog(target, stampOf(header))
}

// inspectNote refuses a folder that had a database but now has none, or an
// empty one. A first start writes the note after its database.
func inspectNote(target string, size int64) error {
	if sizeOf(target+noteSuffix) == noFile {
		return nil
	}
	state := "missing"
	if size == 0 {
		state = "empty"
	}
	return fmt.Errorf("%s is %s, but %s%s is there from a database that may hold acknowledged events: put %[1]s back, "+
		"or, to begin with an empty database, move all files out of the folder", databaseFile, state, filepath.Base(target), noteSuffix)
}

// HasDatabase reports whether a data folder has a SQLite database, or may have
// one because it cannot be read.
func HasDatabase(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, databaseFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// noFile is the size of a missing file.
const noFile = -1

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return noFile // without permission, the open returns the error
	}
	return info.Size()
}

// The header of a database file: https://www.sqlite.org/fileformat.html#the_database_header
const (
	headerMagic = "SQLite format 3\x00"
	headerSize  = 100

	headerPageSize = 16 // 2 bytes; 1 is 65536
	headerReadWith = 19 // 1 byte; 2: with a write-ahead log
	headerChanges  = 24 // 4 bytes: a count of changes
	headerPages    = 28 // 4 bytes: the size of the file, in pages
	headerUser     = 60 // 4 bytes: user_version, which holds the stamp
	headerPagesAt  = 92 // 4 bytes: the count of changes when headerPages was written
)

// readHeader returns the header of a file, and how many bytes of it the file
// has.
func readHeader(path string) (header []byte, n int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	header = make([]byte, headerSize)
	n, err = io.ReadFull(file, header)
	if err = errors.Join(ignoreEOF(err), file.Close()); err != nil {
		return nil, 0, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return header, n, nil
}

// inspectHeader refuses a file that is not a database, is shorter than its
// header says, or has a log beside it that cannot be its own.
func inspectHeader(path string, has []byte, size int64, hasLog, hasJournal bool) error {
	header, n := make([]byte, headerSize), len(has)
	copy(header, has)
	number := func(at int) int64 { return int64(binary.BigEndian.Uint32(header[at:])) }
	pageSize := int64(binary.BigEndian.Uint16(header[headerPageSize:]))
	if pageSize == 1 {
		pageSize = 65536
	}
	whole := max(number(headerPages)*pageSize, headerSize)
	switch {
	case !bytes.HasPrefix(header, []byte(headerMagic[:min(n, len(headerMagic))])):
		return fmt.Errorf("%s is not a SQLite database: restore it from a backup, or choose another folder with --data-dir", path)
	case hasLog && n == headerSize && header[headerReadWith] != 2:
		return fmt.Errorf("%s was not written with %[1]s-wal, which is there from another database: "+
			"restore both from one backup, or move %[1]s-wal away", path)
	case hasLog || hasJournal: // they have the missing pages
		return nil
	case n == headerSize && number(headerChanges) != number(headerPagesAt): // then the number of pages is outdated
		return nil
	case size < whole:
		return fmt.Errorf("%s has been cut off: it has %d bytes, and %d by its header; copy it again, or restore it from a backup",
			path, size, whole)
	}
	return nil
}

// ignoreEOF returns nil for the errors of a file that is too short, else err.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
