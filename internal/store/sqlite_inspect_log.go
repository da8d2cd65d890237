package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// inspectLog refuses a database whose log belongs to another state of it, or
// was deleted with commits in it. SQLite would write the first log into the
// wrong database, and would not notice the loss of the second.
func inspectLog(target string, is stamp) error {
	name := filepath.Base(target)
	stamps, err := logStamps(target + "-wal")
	if err != nil {
		return fmt.Errorf("%s-wal cannot be read: %w", target, err)
	}
	if note := readNote(target + noteSuffix); len(stamps) == 0 && note.open && note.base == is {
		return fmt.Errorf("%s-wal is gone or damaged, and with it events that were acknowledged: the server did not stop in order, and they "+
			"were in that file alone; put it back, or, to begin without them or with a backup, move %[1]s%s away", name, noteSuffix)
	}
	if len(stamps) == 0 || stamps[0].follows(is) || slices.Contains(stamps, is) {
		return nil
	}
	return fmt.Errorf("%s is not the database that %[1]s-wal belongs to, which may hold acknowledged events: an older copy or another "+
		"database was put in its place; put the first one back, or, to go on with this one, move %[1]s-wal, %[1]s-shm and %[1]s%[2]s away",
		name, noteSuffix)
}

// lostLog reports whether the note beside a database says that a log exists,
// but it is missing. The database must have passed inspectLog.
func lostLog(target string) bool {
	return sizeOf(target+"-wal") <= 0 && readNote(target+noteSuffix).open
}

// The log: https://www.sqlite.org/fileformat.html#the_write_ahead_log
const (
	logMagic      = 0x377f0682 // or 1 more, for checksums of big-endian words
	logHeaderSize = 32
	logPageSize   = 8  // 4 bytes
	logSalts      = 16 // 8 bytes
	logChecksum   = 24 // 8 bytes: of all before it

	frameHeaderSize = 24
	framePage       = 0 // 4 bytes: the number of the page
	frameCommit     = 4 // 4 bytes: not 0 in the last frame of a commit
	frameSalts      = 8
	frameChecksum   = 16
)

// logStamps returns the stamps in the commits of a log, as SQLite would read
// it: up to the last complete commit.
func logStamps(path string) (stamps []stamp, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	from := bufio.NewReaderSize(file, 1<<16)
	header := make([]byte, logHeaderSize)
	if _, err := io.ReadFull(from, header); err != nil {
		return nil, ignoreEOF(err)
	}
	sum := checksum{order: binary.LittleEndian}
	magic, pageSize := binary.BigEndian.Uint32(header), binary.BigEndian.Uint32(header[logPageSize:])
	if magic&1 == 1 {
		sum.order = binary.BigEndian
	}
	sum.add(header[:logChecksum])
	if magic&^1 != logMagic || pageSize < headerSize || pageSize > 1<<16 || !sum.is(header[logChecksum:]) {
		return nil, nil
	}
	var open []stamp // of the commit being read
	for frame := make([]byte, frameHeaderSize+pageSize); ; {
		if _, err := io.ReadFull(from, frame); err != nil {
			return stamps, ignoreEOF(err)
		}
		sum.add(frame[:frameSalts])
		sum.add(frame[frameHeaderSize:])
		if !slices.Equal(frame[frameSalts:frameChecksum], header[logSalts:logChecksum]) || !sum.is(frame[frameChecksum:]) {
			return stamps, nil
		}
		if binary.BigEndian.Uint32(frame[framePage:]) == 1 {
			open = append(open, stampOf(frame[frameHeaderSize:]))
		}
		if binary.BigEndian.Uint32(frame[frameCommit:]) != 0 {
			stamps, open = append(stamps, open...), open[:0]
		}
	}
}

// stampOf returns the stamp of a page 1.
func stampOf(page []byte) stamp { return stamp(binary.BigEndian.Uint32(page[headerUser:])) }

// checksum is the log's checksum of all added data.
type checksum struct {
	order binary.ByteOrder
	a, b  uint32
}

// add adds a multiple of 8 bytes.
func (s *checksum) add(data []byte) {
	for ; len(data) >= 8; data = data[8:] {
		s.a += s.order.Uint32(data) + s.b
		s.b += s.order.Uint32(data[4:]) + s.a
	}
}

// is reports whether the checksum equals one in the file.
func (s *checksum) is(stored []byte) bool {
	return binary.BigEndian.Uint32(stored) == s.a && binary.BigEndian.Uint32(stored[4:]) == s.b
}
