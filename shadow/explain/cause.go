package explain

// Cause is why two sides differ, as far as it can be shown.
type Cause string

// The causes.
const (
	MissingWrite   Cause = "missing write"         // a write changed legacy, and the model does not have it
	ExtraWrite     Cause = "extra write"           // the model has what no effect of a write explains
	Translation    Cause = "translation"           // the event is there, with another value
	Projection     Cause = "projection"            // the event says what legacy says, the model's tables say something else
	Ordering       Cause = "ordering"              // another order of overlapping writes gives the candidate's value
	DarkWrite      Cause = "dark write"            // legacy's value came from a change that no write explains and no mapping carries
	LostUpdate     Cause = "lost update in legacy" // legacy itself forgot one of two overlapping writes
	Nondeterminism Cause = "legacy nondeterminism" // legacy gives two answers to one question
	StaleCache     Cause = "stale cache"           // the model's tables agree with legacy, the answer does not
	Rounding       Cause = "rounding"              // one number is the other with fewer digits
	TimeZone       Cause = "time zone"             // instants lie whole hours apart
	Charset        Cause = "charset"               // one text is the other, read in a wrong charset
	Unknown        Cause = "unknown"
)
