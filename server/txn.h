#pragma once
/*
 * Changes that span peers: two-phase commit, presumed abort.
 *
 * A change is a list of steps (WireStep), each done by the home of its inode.
 * The coordinator, the home of the (first) name, has each home prepare its
 * steps: check them, hold what they touch (holds.h), and record them durably.
 * Then the coordinator's own batch does its own steps and is the decision; it
 * contains a record of it. Then each home is told, does its steps in one batch
 * that also drops its record, and lets go.
 *
 *	participant:  (nothing) -> prepared -> done, or undone
 *	coordinator:  running -> decided -> told -> forgotten
 *
 * A participant that is not told asks the coordinator: decided where there is a
 * record of the decision, pending while the change runs there, else aborted.
 * The decision is forgotten only after every participant has done its part and
 * synced its log, since one that lost power could otherwise ask again too late.
 * For the same reason a participant syncs its record before it says that it is
 * prepared, and the coordinator its decision before it tells anyone.
 *
 * A change whose steps are all on one peer is one batch, without records.
 */
#include "server/change.h"
#include "server/holds.h"
#include "server/record.h"

/* How long a change is tried: while others come first, that is. */
#define TXN_TRY_NS INT64_C(20000000000)

/* One call's change; the age stays when it is tried again. */
typedef struct TxnCall {
	Server *s;
	int64_t age_ns, until_ns; /* CLOCK_REALTIME; reactor_now_ns() */
	uint32_t tries;
	int64_t decide_by_ns;     /* reactor_now_ns(); 0: whenever */
	const RpcReq *caller;     /* whose call it is */
	const GByteArray *acl;    /* what a MAKE step inherits, or NULL */
} TxnCall;

void txn_call_init(TxnCall *t, Server *s, const RpcReq *caller);
/* Does the steps, all or none. -EAGAIN: something was not as the steps say, or
 * an older change comes first: look again, after txn_call_co_again(). A MAKE
 * step's number goes into the new_ino of the NAME step before it; its
 * attributes to *ret_made. -EIO after the decision never: it is kept then. */
int coroutine_fn txn_co_run(TxnCall *t, WireStep *steps, uint32_t n, WireAttr *ret_made);
/* Waits a moment; -EIO when it has been tried long enough. */
int coroutine_fn txn_call_co_again(TxnCall *t);

/* ---- txn-steps.c: steps of this peer ---- */

/* The peer whose step it is. */
uint16_t step_home(const Server *s, const WireStep *step);
/* Do they make sense, and are all ours? 0 or -EPROTO: they may be a peer's. */
int steps_check(Server *s, const WireStep *steps, uint32_t n);
/* Checks that they can be done and takes hold of what they touch, which also
 * calls back what mounts keep of it, and lets none keep it from then on: else
 * one could see the change at one peer, and go on with what it keeps of
 * another. As txn_co_run(); after an error nothing is held. MAKE gets its
 * number. caller: as of a Change. */
int coroutine_fn steps_co_prepare(Server *s, WireStep *steps, uint32_t n, HoldOwner *owner, const RpcReq *caller);
/* Takes hold alone, for what a record says was prepared: no mount keeps it.
 * An error: an inode is not there or can't be read, and is named in the log.
 * All is held, but the steps can't be done. */
int coroutine_fn steps_co_hold(Server *s, const WireStep *steps, uint32_t n, HoldOwner *owner);
/* Lets go of all of it. */
void steps_drop(Server *s, HoldOwner *owner);
/* Does them, together with what is put into the batch by `also` (or NULL).
 * They were prepared, and are held still. */
typedef void StepsAlso(MetaBatch *b, void *arg);
typedef struct StepsDo {
	const GByteArray *acl; /* of a MAKE step, or NULL */
	const RpcReq *caller;
	StepsAlso *also;
	void *arg;
} StepsDo;
int coroutine_fn steps_co_do(Server *s, const WireStep *steps, uint32_t n, const StepsDo *how);
/* What a MAKE step makes; what belongs to it goes into the batch. */
void step_made(const WireStep *step, const GByteArray *acl, MetaBatch *b, InodeData *ret_d);
/* The ACL behind n steps that were sent or recorded, to be freed; NULL: none.
 * `len` are the bytes of both. -EPROTO: they don't fit. */
int steps_take_acl(const WireStep *steps, uint32_t n, const void *data, size_t len, GByteArray **ret_acl);

/* ---- the tick, txn.c ---- */

/* Something waits or is unfinished: look after it every second. */
void txns_need_tick(Server *s);

/* ---- between the files txn*.c ---- */

typedef struct Decision Decision;
typedef struct Part Part;

struct Txns {
	Server *s;
	uint64_t number;      /* of my last change */
	GHashTable *running;  /* &number -> nothing: not decided yet */
	GHashTable *decisions; /* WireTxnId -> Decision, not forgotten */
	GHashTable *parts;    /* WireTxnId -> Part: prepared here for others */
	CoQueue finished;     /* a part has come to an end, or to none */
	CoGroup group;
	ReactorTimer timer;
	bool settling, driving;
};

guint txn_id_hash(const void *id);
gboolean txn_id_equal(const void *a, const void *b);
/* The records 'p' (data: steps, and an ACL; peer: the coordinator) and 'q' (data: the
 * participants' numbers). */
typedef struct TxnRecord {
	WireTxnId id;
	uint16_t peer;
	int64_t age_ns;
	uint8_t n;        /* steps, or participants */
	const void *data; /* unaligned */
	size_t len;
	const GByteArray *acl; /* to put: what comes behind data, or NULL */
} TxnRecord;
void txn_record_put(MetaBatch *b, RecordType type, const TxnRecord *rec);
/* False: it can't be read. data points into value. */
bool txn_record_get(const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, TxnRecord *ret_rec);
/* Each record of a type; rec is good until load returns. What can't be read, or
 * is -EPROTO to load, is left out with a warning; another error ends it. */
typedef int coroutine_fn TxnLoadFn(Server *s, const TxnRecord *rec);
int coroutine_fn txn_records_co_load(Server *s, RecordType type, TxnLoadFn *load);

/* txn-part.c */
void parts_attach(Server *s);
void part_free(void *part);
void parts_drop_all(Server *s);
int coroutine_fn parts_co_load(Server *s);
bool parts_unfinished(const Server *s);
void coroutine_fn parts_co_settle(Server *s);
/* txn-decide.c */
void decisions_attach(Server *s);
void decision_free(void *decision);
int coroutine_fn decisions_co_load(Server *s);
void coroutine_fn decisions_co_drive(Server *s);
/* Put into the coordinator's batch, and into the table after it. n: 1 to 4. */
Decision *decision_new(Server *s, WireTxnId id, const uint16_t *peers, uint32_t n);
WireTxnId *decision_id(Decision *d);
void decision_put(MetaBatch *b, void *decision);
/* Tells every participant that has not heard; all of them: done. */
void coroutine_fn decision_co_tell(Server *s, Decision *d);
