/*-------------------------------------------------------------------------
 *
 * hold.h
 *		Events that wait because their topic takes none for now, while those of
 *		other topics go on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DE_HOLD_H
#define DE_HOLD_H

#include "worker/relay/topic.h"
#include "worker/relay/window.h"

/* Holds an event; the window must have room for it. */
extern void de_hold_event(DeWindow *window, DeTopic *topic, int64 id, int64 created_at);

/* All events are met again: of before a rewind none is held. */
extern void de_hold_forget(DeTopics *topics);

/*
 * Begins a sweep: the ids between which there are held events of topics that
 * take some again.  False = there are none.
 */
extern bool de_hold_sweep(DeTopics *topics, DeWindow *window, int64 *first, int64 *last);

/* Is this event one of them, and by which token? */
extern bool de_hold_is_swept(DeTopics *topics, DeWindow *window, int64 id, uint64 *token);

/* One of them was handed over. */
extern void de_hold_released(DeTopic *topic);

/* Its topic takes no more; what is left of it waits on. */
extern void de_hold_stop(DeTopic *topic);

/* From "first" to "upto" all there were have been offered: what is left is gone from the outbox. */
extern void de_hold_swept(DeTopics *topics, DeWindow *window, int64 first, int64 upto);

#endif							/* DE_HOLD_H */
