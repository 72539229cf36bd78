/*-------------------------------------------------------------------------
 *
 * hold.c
 *		Events that wait because their topic takes none for now, while those of
 *		other topics go on.
 *
 * Once a topic has a held event, all its later ones are held, too, or they
 * would overtake it.  Of a held event the window has the id and the topic, and
 * no bytes: a topic may be shut for long.  When it opens, what it has held is
 * read again ("sweep") and handed over in the order of ids, until it is shut
 * again or nothing of it is held; then its new events go to it directly.
 *
 * The window knows a topic by its number, which a reload of the topics makes
 * void.  Events could also belong to another topic then, which has taken later
 * ones already; so a reload with anything held ends in a rewind
 * (de_sender_topics_loaded), and no sweep comes before it.
 *
 * Main thread of the relay only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/relay/hold.h"

void
de_hold_event(DeWindow *window, DeTopic *topic, int64 id, int64 created_at)
{
	de_window_hold(window, id, created_at, topic->hash, topic->number);
	topic->held++;
}

void
de_hold_forget(DeTopics *topics)
{
	for (uint32 i = 0; i < de_topics_count(topics); i++)
	{
		DeTopic    *topic = de_topics_by_number(topics, i);

		topic->held = 0;
		topic->open = false;
		topic->sweeping = false;
	}
}

/*
 * The scan ends with the last of them: there may be very many of a topic that
 * stays shut.
 */
bool
de_hold_sweep(DeTopics *topics, DeWindow *window, int64 *first, int64 *last)
{
	DeWindowCursor cursor;
	int			left = 0;
	bool		any = false;

	for (uint32 i = 0; i < de_topics_count(topics); i++)
	{
		DeTopic    *topic = de_topics_by_number(topics, i);

		topic->sweeping = topic->open && topic->held > 0;
		topic->open = topic->sweeping;
		if (topic->sweeping)
			left += topic->held;
	}
	de_window_seek(window, 0, &cursor);
	while (left > 0 && de_window_next_held(window, &cursor))
	{
		if (!de_topics_by_number(topics, cursor.topic)->sweeping)
			continue;
		if (!any)
			*first = cursor.id;
		*last = cursor.id;
		any = true;
		left--;
	}
	return any;
}

/*
 * While it is read: the topic may have been shut since the sweep began.
 */
bool
de_hold_is_swept(DeTopics *topics, DeWindow *window, int64 id, uint64 *token)
{
	uint32		number;

	return de_window_is_held(window, id, token, &number) &&
		de_topics_by_number(topics, number)->sweeping;
}

void
de_hold_released(DeTopic *topic)
{
	topic->held--;
	if (topic->held == 0)
		de_hold_stop(topic);
}

/*
 * Not taken up again in this sweep, should it open meanwhile: events of it have
 * been passed over.
 */
void
de_hold_stop(DeTopic *topic)
{
	topic->open = false;
	topic->sweeping = false;
}

void
de_hold_swept(DeTopics *topics, DeWindow *window, int64 first, int64 upto)
{
	DeWindowCursor cursor;

	de_window_seek(window, first, &cursor);
	while (de_window_next_held(window, &cursor) && cursor.id <= upto)
	{
		DeTopic    *topic = de_topics_by_number(topics, cursor.topic);

		if (!topic->sweeping)
			continue;
		de_window_drop(window, cursor.token);
		de_hold_released(topic);
	}
}
