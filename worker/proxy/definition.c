/*-------------------------------------------------------------------------
 *
 * definition.c
 *		How one consumer group is to be run: copies and comparisons.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/proxy/definition.h"

static const char *const *definition_copy_strings(const char *const *strings, int n);
static bool definition_same_strings(const char *const *a, int na, const char *const *b, int nb);

static const char *const *
definition_copy_strings(const char *const *strings, int n)
{
	const char **copy = palloc(sizeof(char *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		copy[i] = pstrdup(strings[i]);
	return copy;
}

DeGroupDefinition *
de_definition_copy(const DeGroupDefinition *definition)
{
	DeGroupDefinition *copy = palloc(sizeof(DeGroupDefinition));

	*copy = *definition;
	copy->name = pstrdup(definition->name);
	if (definition->name_utf8 != NULL)
		copy->name_utf8 = pstrdup(definition->name_utf8);
	if (definition->invalid != NULL)
		copy->invalid = pstrdup(definition->invalid);
	copy->topics = definition_copy_strings(definition->topics, definition->ntopics);
	copy->handler_url = pstrdup(definition->handler_url);
	copy->handler_headers = definition_copy_strings(definition->handler_headers,
													definition->nhandler_headers);
	return copy;
}

static bool
definition_same_strings(const char *const *a, int na, const char *const *b, int nb)
{
	if (na != nb)
		return false;
	for (int i = 0; i < na; i++)
	{
		if (strcmp(a[i], b[i]) != 0)
			return false;
	}
	return true;
}

/*
 * Are the topics the same?  Both are sorted.
 */
bool
de_definition_same_topics(const DeGroupDefinition *a, const DeGroupDefinition *b)
{
	return definition_same_strings(a->topics, a->ntopics, b->topics, b->ntopics);
}

/*
 * Can what runs go on?  Topics may change while a member stays in its group;
 * but bodies that are built already keep their form and size for as long as
 * the handler refuses them, and a smaller limit may be meant to end just
 * that.  So then all is built anew, from the committed offsets.
 */
bool
de_definition_fits(const DeGroupDefinition *old, const DeGroupDefinition *new)
{
	return new->invalid == NULL && old->from_latest == new->from_latest &&
		(!new->from_latest || old->created_at_ms == new->created_at_ms) &&
		old->mode == new->mode &&
		old->batch_max_events <= new->batch_max_events &&
		old->batch_max_bytes <= new->batch_max_bytes;
}

bool
de_definition_equal(const DeGroupDefinition *a, const DeGroupDefinition *b)
{
	return strcmp(a->name, b->name) == 0 &&
		strcmp(a->invalid ? a->invalid : "", b->invalid ? b->invalid : "") == 0 &&
		de_definition_same_topics(a, b) &&
		strcmp(a->handler_url, b->handler_url) == 0 &&
		definition_same_strings(a->handler_headers, a->nhandler_headers,
								b->handler_headers, b->nhandler_headers) &&
		a->mode == b->mode && a->from_latest == b->from_latest &&
		a->created_at_ms == b->created_at_ms &&
		a->batch_max_events == b->batch_max_events && a->batch_max_bytes == b->batch_max_bytes &&
		a->linger_ms == b->linger_ms && a->timeout_ms == b->timeout_ms &&
		a->backoff_min_ms == b->backoff_min_ms && a->backoff_max_ms == b->backoff_max_ms;
}
